-- Sets a holder's missing key again, if this node may vote and has granted no larger number.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- KEYS[4]  the largest number here, of any key, that was ahead of the clock when it was given
-- ARGV[1]  our token
-- ARGV[2]  the time to live in milliseconds
-- ARGV[3]  for how long the fence is kept, in milliseconds: at least a second
-- ARGV[4]  our number
-- ARGV[5]  the marker as we know it
-- ARGV[6]  when its probation ends, in microseconds of this node's clock
-- (One more goes with every fenced script; this one ignores it.)
--
-- Returns  { 1, number, now}  ours again, and the fence stands at our number; now in microseconds
--          { 0, left, now}    another's, for so many milliseconds; -1: forever
--          {-2, fence, now}   not there, but the fence is past our number (said to be 2^53 - 1 at most)
--          {-3, 0, now}       the marker is not the one we know
--          {-4, left, now}    on probation, for so many milliseconds
-- or the error reply of a command that the server refused; the key is not ours then.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[5] then
    return {-3, 0, now}
end
-- Adding 0 reads a number as tonumber does, for less; it is done before anything is written, as it fails on garbage.
local floor, number = ARGV[6] + 0, ARGV[4] + 0
if now < floor then
    return {-4, math.ceil((floor - now) / 1000), now}
end
local fence = tonumber(redis.call('GET', KEYS[2])) or 0
local left = redis.call('PTTL', KEYS[1])
if left ~= -2 then
    return {0, left, now}
end
if fence > number then
    -- A fence that we did not make may be larger than a reply can say.
    return {-2, math.min(fence, 9007199254740991), now}
end
local done = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if done.err then
    return done
end
local kept = redis.pcall('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
if kept.err then
    redis.call('DEL', KEYS[1])
    return kept
end
if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[4])) or 0) then
    -- Where no fence is left, numbers go on from the clock, which is not past this one then.
    redis.call('SET', KEYS[4], ARGV[4])
end
return {1, number, now}
