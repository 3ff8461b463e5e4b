-- Tells the other replicas which backend holds what.
--
-- KEYS 1: the table; ARGV: place and entry, for each
-- Returns: how many were told
local THIRTY_DAYS_S = 2592000
redis.call('HSET', KEYS[1], unpack(ARGV))
redis.call('EXPIRE', KEYS[1], THIRTY_DAYS_S)
return {#ARGV / 2}
