-- Makes what was held what was used, for a batch of reservations and of usage that was never held.
-- A batch is applied once, however often it is sent: it carries a number that only grows.
--
-- KEYS 1: this replica's open reservations; 2: the number of its last batch; then one hash a line
-- ARGV 1: the time, 0 for this server's; 2: the batch's number; then 8 a line: the reservation's number,
--   0 if nothing was held; 1 if it is certain that it was taken, 0 if its answer was lost; ns held; ns used,
--   -1 without a rate; tokens held; tokens used; the hours at which the quota's window begins and ends,
--   0 without a quota
-- Returns: 1 applied, 0 known already
local FURTHEST, MOST = 4320000000000000, 4398046511103
local HOUR, DAY_S, SPARE_MS = 3600000000, 86400, 1000

local function whole(number) return string.format('%.0f', number) end

local last = tonumber(redis.call('GET', KEYS[2])) or 0
if tonumber(ARGV[2]) <= last then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', DAY_S)

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local hour = math.floor(now / HOUR)

-- How much of what a line says it held is there to be taken off, and whether it counts at all.
local was_held = {}
local function held(id, certain)
  if id == '0' then return 0, true end
  if was_held[id] == nil then
    was_held[id] = redis.call('HDEL', KEYS[1], id) == 1
    -- Its answer was lost and it isn't here: should it still come, it finds that it was given up.
    if not was_held[id] and not certain then
      redis.call('HSET', KEYS[1], id, 'given up')
      redis.call('EXPIRE', KEYS[1], DAY_S)
    end
  end
  if was_held[id] then return 1, true end
  return 0, certain
end

for i = 3, #KEYS do
  local at = 2 + (i - 3) * 8
  local part, counts = held(ARGV[at + 1], ARGV[at + 2] == '1')
  if counts then
    local used_ns, since, ends = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
    local cell = redis.call('HMGET', KEYS[i], 't', 'f', 'h', 'u')
    local ttl_ms, write = 0, {}
    if used_ns >= 0 then
      local passed = math.max(0, now - (tonumber(cell[1]) or 0))
      local full = math.max(0, (tonumber(cell[2]) or 0) - passed * 1000)
      full = math.max(0, math.min(FURTHEST, full + used_ns - part * tonumber(ARGV[at + 3])))
      write = {'t', whole(now), 'f', whole(full)}
      ttl_ms = full / 1000000
    end
    local stored = tonumber(cell[3]) or 0
    if since > 0 and stored <= since and hour < ends then
      local before = 0
      if stored == since then before = math.max(0, (tonumber(cell[4]) or 0) - part * tonumber(ARGV[at + 5])) end
      write[#write + 1], write[#write + 2] = 'h', whole(since)
      write[#write + 1], write[#write + 2] = 'u', whole(math.min(MOST, before + tonumber(ARGV[at + 6])))
    end
    if #write > 0 then
      redis.call('HSET', KEYS[i], unpack(write))
      ttl_ms = math.max(ttl_ms, redis.call('PTTL', KEYS[i]), (ends * HOUR - now) / 1000)
      redis.call('PEXPIRE', KEYS[i], whole(math.ceil(ttl_ms) + SPARE_MS))
    end
  end
end
return 1
