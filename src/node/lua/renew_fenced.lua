-- Renews a key that is still ours and keeps its fence at our number or above, if this node may vote.
-- Never shortens the key's life, never creates the key, never lowers the fence.
--
-- Under a larger fence the key is renewed all the same, and the reply says so: the holder judges whether the node
-- counts, and its key must not expire meanwhile.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- KEYS[4]  the largest number here, of any key, that was ahead of the clock when it was given
-- ARGV[1]  our token
-- ARGV[2]  the new time to live in milliseconds; 0 leaves it as it is
-- ARGV[3]  for how long the fence is kept, in milliseconds: at least a second
-- ARGV[4]  our number
-- ARGV[5]  the marker as we know it
-- ARGV[6]  when its probation ends, in microseconds of this node's clock
-- (One more goes with every fenced script; this one ignores it.)
--
-- Returns  { 1, number, now}  ours, and the fence stands at our number; now in microseconds
--          { 0, left, now}    another's, for so many milliseconds; -1: forever (a key of another type is another's)
--          {-1, 0, now}       not there
--          {-2, fence, now}   ours, but the fence is past our number (said to be 2^53 - 1 at most)
--          {-3, 0, now}       the marker is not the one we know
--          {-4, left, now}    on probation, for so many milliseconds
-- or the error reply of a command that the server refused.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[5] then
    return {-3, 0, now}
end
-- Adding 0 reads a number as tonumber does, for less; it is done before anything is written, as it fails on garbage.
local floor, number, ttl = ARGV[6] + 0, ARGV[4] + 0, ARGV[2] + 0
if now < floor then
    return {-4, math.ceil((floor - now) / 1000), now}
end
local value = redis.pcall('GET', KEYS[1])
if not value then
    return {-1, 0, now}
end
if value ~= ARGV[1] then
    -- Only the wrong type says whose the key is. A missing right or a loading server says nothing about it.
    if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
        return value
    end
    return {0, redis.call('PTTL', KEYS[1]), now}
end

local fence = tonumber(redis.call('GET', KEYS[2])) or 0
if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[4])) or 0) then
    -- Where no fence is left, numbers go on from the clock, which is not past this one then.
    redis.call('SET', KEYS[4], ARGV[4])
end
if fence >= number then
    -- Equivalent to writing the same number again, but cheaper, and a server that is out of memory does not refuse it.
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
else
    redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[3])
end

-- Redis 6.2 has no PEXPIRE ... GT. A left of -1 is our own key that lost its expiry: it is given an expiry
-- again, or it would outlive a crashed owner forever.
if ttl > 0 and redis.call('PTTL', KEYS[1]) < ttl then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if fence > number then
    -- A fence that we did not make may be larger than a reply can say.
    return {-2, math.min(fence, 9007199254740991), now}
end
return {1, number, now}
