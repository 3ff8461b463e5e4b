-- What time it is here, and the trips that are open.
--
-- KEYS 1: the open trips, by when they end, in milliseconds since 1970 by this server's clock
-- Returns: that time; then a message for each
local MOST, DAY_MS = 1000, 86400000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local from, to = '(' .. string.format('%.0f', now), string.format('%.0f', now + DAY_MS)

local reply = redis.call('ZRANGEBYSCORE', KEYS[1], from, to, 'LIMIT', 0, MOST)
table.insert(reply, 1, string.format('%.0f', now))
return reply
