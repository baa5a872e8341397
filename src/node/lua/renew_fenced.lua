-- Renews a holder's key and raises its fence to the holder's number. Rejected on probation.
-- Never shortens the remaining time, never creates the key, never lowers the fence.
--
-- This script is also the write-back, the second phase of ABD registers (Attiya, Bar-Noy, Dolev 1995): with
-- ttl 0 it raises only the fence. If the fence is larger than the holder's number, the key is renewed all the
-- same, and the reply reports the fence. The holder decides whether the node counts, and meanwhile its key
-- must not expire.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- KEYS[4]  the largest number given out here for any key, of those that were then over 250 ms ahead of the
--          clock
-- ARGV[1]  the owner token
-- ARGV[2]  the new time to live in milliseconds; 0 leaves it unchanged
-- ARGV[3]  for how long the fence is kept, in milliseconds: at least 1000
-- ARGV[4]  the holder's number
-- ARGV[5]  the expected marker
-- ARGV[6]  the end of the node's probation, in microseconds of this node's clock
-- (One more argument comes with every fenced script; this script ignores it.)
--
-- Returns  { 1, number, now}  renewed, and the fence is the holder's number; now in microseconds
--          { 0, left, now}    another owner's key or another type, for this many milliseconds; -1: forever
--          {-1, 0, now}       there is no key
--          {-2, fence, now}   renewed, but the fence is larger than the holder's number (at most 2^53 - 1)
--          {-3, 0, now}       the marker is not the expected one
--          {-4, left, now}    on probation, for this many milliseconds
-- or the error reply of a command that the server rejected.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[5] then
    return {-3, 0, now}
end
-- Adding 0 converts like tonumber, but faster. It fails on invalid input, so it comes before any write.
local probation_end, number, ttl = ARGV[6] + 0, ARGV[4] + 0, ARGV[2] + 0
if now < probation_end then
    return {-4, math.ceil((probation_end - now) / 1000), now}
end
local value = redis.pcall('GET', KEYS[1])
if not value then
    return {-1, 0, now}
end
if value ~= ARGV[1] then
    -- WRONGTYPE proves another owner. Other errors, such as NOPERM or LOADING, prove nothing.
    if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
        return value
    end
    return {0, redis.call('PTTL', KEYS[1]), now}
end

local fence = tonumber(redis.call('GET', KEYS[2])) or 0
if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[4])) or 0) then
    -- Once the fence has expired, numbers continue from the clock, which may not have reached this number by
    -- then.
    redis.call('SET', KEYS[4], ARGV[4])
end
if fence >= number then
    -- Same effect as writing the number again, but cheaper, and not rejected by a server that is out of
    -- memory.
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
else
    redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
end

-- Redis 6.2 has no PEXPIRE ... GT. -1 means that the holder's own key lost its expiry: set it again, because
-- otherwise the key of a crashed holder would stay forever.
if ttl > 0 and redis.call('PTTL', KEYS[1]) < ttl then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if fence > number then
    -- A fence that this library did not write may not fit into a reply.
    return {-2, math.min(fence, 9007199254740991), now}
end
return {1, number, now}
