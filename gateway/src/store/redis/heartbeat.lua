-- Says that this replica lives, and how many do.
--
-- KEYS 1: the replicas, by the second that they were last heard of
-- ARGV 1: this one's name; 2: seconds after which one that wasn't heard of is gone
-- Returns: how many there are
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], 86400)
return redis.call('ZCARD', KEYS[1])
