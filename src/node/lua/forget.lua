-- Forgets the fence of a key that is free, as soon as its number says nothing that this node's clock does not.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- ARGV[1]  how far the clock must have passed the number, in milliseconds; if the number is ahead, this is what it stays
-- ARGV[2]  the marker as we know it
-- (Two more go with every request that depends on the marker; this one ignores them.)
--
-- Returns  { 1, left, now}  the fence goes in so many milliseconds, 0 if it is gone; now in microseconds
--          { 0, left, now}  the key is held, for so many milliseconds; -1: forever
--          {-1, 0, now}     there is no fence
--          {-3, 0, now}     the marker is not the one we know: others may have agreed on longer locks
-- or the error reply of a command that the server refused.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[2] then
    return {-3, 0, now}
end
local held = redis.call('PTTL', KEYS[1])
if held ~= -2 then
    return {0, held, now}
end
local fence = redis.pcall('GET', KEYS[2])
if not fence then
    return {-1, 0, now}
end
-- Only the wrong type says what is there. A missing right or a loading server says nothing about it.
if type(fence) == 'table' and not string.find(fence.err, 'WRONGTYPE', 1, true) then
    return fence
end
local number = tonumber(fence)
-- What is no number, or has none left above it, was not made by us and says nothing. An infinity modulo 1 is not 0 either.
if not number or number % 1 ~= 0 or number >= 9007199254740991 then
    number = 0
end
-- One that is ahead of the clock is known without its fence (see the grant), so that it need not stay for longer.
local left = math.ceil(math.min(number - now, 0) / 1000) + ARGV[1]
if left <= 0 then
    redis.call('DEL', KEYS[2])
    return {1, 0, now}
end
local life = redis.call('PTTL', KEYS[2])
if life == -1 or life > left then
    redis.call('PEXPIRE', KEYS[2], string.format('%.0f', left))
end
return {1, left, now}
