-- Takes from all limits of a request, or from none. The same arithmetic as filters::limit, word for word.
-- Why a limit refuses is worked out by the gateway, from the states that are returned.
--
-- Numbers here are doubles, whole up to 2^53. Times are microseconds since 1970 (2^53 is the year 2255), how
-- far a bucket is from full is nanoseconds (cut at 50 days, half of 2^53), tokens end at 2^42.
--
-- KEYS 1: this replica's open reservations; then one hash a limit: t f (until full, ns, as of t), h u (the
--   hour that the quota's window began, tokens used in it)
-- ARGV 1: the time, 0 for this server's; 2: the reservation's number, 0 if it holds nothing; then 8 a limit:
--   1 if it observes; cost in ns, -1 without a rate; tokens held; quota, -1 for none; the hours at which the
--   windows before, now and next begin, and that one's end, by the gateway's calendar
-- Returns: 1 taken, 0 not, -1 given up meanwhile, -2 the clocks are apart; the time; then f h u of each
--   limit as they were found
local CAPACITY, FURTHEST, MOST = 60000000000, 4320000000000000, 4398046511103
local HOUR, DAY_S, SPARE_MS = 3600000000, 86400, 1000

local function whole(number) return string.format('%.0f', number) end

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local hour = math.floor(now / HOUR)

local id = ARGV[2]
if id ~= '0' and redis.call('HDEL', KEYS[1], id) == 1 then return {-1, now} end

local reply, limits, taken = {0, now}, {}, true
for i = 2, #KEYS do
  local at = 2 + (i - 2) * 8
  local cost, amount, quota = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local cell = redis.call('HMGET', KEYS[i], 't', 'f', 'h', 'u')
  local passed = math.max(0, now - (tonumber(cell[1]) or 0))
  local full = math.max(0, (tonumber(cell[2]) or 0) - passed * 1000)
  local since, used = tonumber(cell[3]) or 0, tonumber(cell[4]) or 0
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = full, since, used

  local fits, ends = cost < 0 or full + cost <= CAPACITY, 0
  if quota >= 0 then
    local starts = 0
    for w = at + 5, at + 7 do
      if hour >= tonumber(ARGV[w]) and hour < tonumber(ARGV[w + 1]) then
        starts, ends = tonumber(ARGV[w]), tonumber(ARGV[w + 1])
      end
    end
    if ends == 0 then return {-2, now} end
    if since < starts then since, used = starts, 0 end
    fits = fits and used + math.max(amount, 1) <= quota
  end
  if not fits and ARGV[at + 1] == '0' then taken = false end
  limits[i] = {fits = fits, full = full, cost = math.max(cost, 0), since = since, used = used,
    amount = amount, ends = ends}
end
if not taken then return reply end

for i = 2, #KEYS do
  local limit = limits[i]
  if limit.fits and limit.cost + limit.amount > 0 then
    local full = math.min(FURTHEST, limit.full + limit.cost)
    redis.call('HSET', KEYS[i], 't', whole(now), 'f', whole(full))
    local ttl_ms = full / 1000000
    if limit.ends > 0 then
      redis.call('HSET', KEYS[i], 'h', whole(limit.since), 'u', whole(math.min(MOST, limit.used + limit.amount)))
      ttl_ms = math.max(ttl_ms, (limit.ends * HOUR - now) / 1000)
    end
    redis.call('PEXPIRE', KEYS[i], whole(math.ceil(ttl_ms) + SPARE_MS))
  end
end
if id ~= '0' then
  redis.call('HSET', KEYS[1], id, 'held')
  redis.call('EXPIRE', KEYS[1], DAY_S)
end
reply[1] = 1
return reply
