-- Forgets the fence of a free key, once this node's clock alone guarantees larger numbers.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- ARGV[1]  by how much the clock must have passed the fence's number, in milliseconds. The fence of a number
--          ahead of the clock is kept for this long
-- ARGV[2]  the expected marker
-- (Two more arguments come with every request that depends on the marker; this script ignores them.)
--
-- Returns  { 1, left, now}  the fence expires in this many milliseconds, 0 if deleted; now in microseconds
--          { 0, left, now}  the key is held, for this many milliseconds; -1: forever
--          {-1, 0, now}     there is no fence
--          {-3, 0, now}     the marker is not the expected one: the lock cluster may have another max TTL
-- or the error reply of a command that the server rejected.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[2] then
    return {-3, 0, now}
end
local ttl = redis.call('PTTL', KEYS[1])
if ttl ~= -2 then
    return {0, ttl, now}
end
local fence = redis.pcall('GET', KEYS[2])
if not fence then
    return {-1, 0, now}
end
-- WRONGTYPE shows what the key is. Other errors, such as NOPERM or LOADING, show nothing.
if type(fence) == 'table' and not string.find(fence.err, 'WRONGTYPE', 1, true) then
    return fence
end
local number = tonumber(fence)
-- A fence that is no number, or has no larger number left, was not written by this library: ignore its value.
-- Infinity modulo 1 is not 0 either.
if not number or number % 1 ~= 0 or number >= 9007199254740991 then
    number = 0
end
-- A number ahead of the clock is also stored for all keys (see acquire_fenced.lua), so its fence is
-- not kept until the clock reaches it.
local left = math.ceil(math.min(number - now, 0) / 1000) + ARGV[1]
if left <= 0 then
    redis.call('DEL', KEYS[2])
    return {1, 0, now}
end
local fence_ttl = redis.call('PTTL', KEYS[2])
if fence_ttl == -1 or fence_ttl > left then
    redis.call('PEXPIRE', KEYS[2], string.format('%.0f', left))
end
return {1, left, now}
