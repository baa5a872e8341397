-- Sets a holder's missing key again. Rejected on probation, or if this node has given out a larger number.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- KEYS[4]  the largest number given out here for any key, of those that were then over 250 ms ahead of the
--          clock
-- ARGV[1]  the owner token
-- ARGV[2]  the time to live in milliseconds
-- ARGV[3]  for how long the fence is kept, in milliseconds: at least 1000
-- ARGV[4]  the holder's number
-- ARGV[5]  the expected marker
-- ARGV[6]  the end of the node's probation, in microseconds of this node's clock
-- (One more argument comes with every fenced script; this script ignores it.)
--
-- Returns  { 1, number, now}  set again, and the fence is the holder's number; now in microseconds
--          { 0, left, now}    there is a key, for this many milliseconds; -1: forever
--          {-2, fence, now}   no key, but the fence is larger than the holder's number (at most 2^53 - 1)
--          {-3, 0, now}       the marker is not the expected one
--          {-4, left, now}    on probation, for this many milliseconds
-- or the error reply of a command that the server rejected; the key is not set then.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[5] then
    return {-3, 0, now}
end
-- Adding 0 converts like tonumber, but faster. It fails on invalid input, so it comes before any write.
local probation_end, number = ARGV[6] + 0, ARGV[4] + 0
if now < probation_end then
    return {-4, math.ceil((probation_end - now) / 1000), now}
end
local fence = tonumber(redis.call('GET', KEYS[2])) or 0
local left = redis.call('PTTL', KEYS[1])
if left ~= -2 then
    return {0, left, now}
end
if fence > number then
    -- A fence that this library did not write may not fit into a reply.
    return {-2, math.min(fence, 9007199254740991), now}
end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if reply.err then
    return reply
end
local fence_reply = redis.pcall('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
if fence_reply.err then
    redis.call('DEL', KEYS[1])
    return fence_reply
end
if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[4])) or 0) then
    -- Once the fence has expired, numbers continue from the clock, which may not have reached this number by
    -- then.
    redis.call('SET', KEYS[4], ARGV[4])
end
return {1, number, now}
