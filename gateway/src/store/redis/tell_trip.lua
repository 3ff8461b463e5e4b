-- Tells the other replicas of a trip, and keeps it for those that aren't listening now.
--
-- KEYS 1: the open trips, by when they end, in milliseconds since 1970 by this server's clock
-- ARGV 1: the message; 2: when the trip ends; 3: the channel
-- Returns: 1 told, 0 over already
local MOST, DAY_S = 1000, 86400
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if tonumber(ARGV[2]) <= now then return {0} end

redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -MOST - 1)
-- No trip lasts longer.
redis.call('EXPIRE', KEYS[1], DAY_S + 60)
redis.call('PUBLISH', ARGV[3], ARGV[1])
return {1}
