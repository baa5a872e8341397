-- Takes a free key and gives it a fencing number above every earlier one, if this node may vote.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- KEYS[4]  the largest number here, of any key, that was ahead of the clock when it was given
-- ARGV[1]  our token
-- ARGV[2]  the time to live in milliseconds
-- ARGV[3]  for how long the fence is kept, in milliseconds: at least a second
-- ARGV[4]  the number we would like
-- ARGV[5]  the minimum fencing number, whatever the clocks say; far below 2^53
-- ARGV[6]  the marker as we know it
-- ARGV[7]  when its probation ends, in microseconds of this node's clock
-- ARGV[8]  what every number of this node is above
--
-- Returns  { 1, number, now}  ours, with this number; now in microseconds
--          { 0, left, now}    another's, for so many milliseconds; -1: forever
--          {-3, 0, now}       the marker is not the one we know
--          {-4, left, now}    on probation, for so many milliseconds
-- or the error reply of a command that the server refused; the key is not ours then.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[6] then
    return {-3, 0, now}
end
-- Adding 0 reads a number as tonumber does, for less; it is done before anything is written, as it fails on garbage.
local votes_from, number, floor, base = ARGV[7] + 0, ARGV[4] + 0, ARGV[5] + 0, ARGV[8] + 0
if now < votes_from then
    return {-4, math.ceil((votes_from - now) / 1000), now}
end
local done = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if not done then
    return {0, redis.call('PTTL', KEYS[1]), now}
end
if done.err then
    return done
end

-- The wanted number is written first, and what stood there read back: with sane clocks that is all.
local old = redis.pcall('SET', KEYS[2], ARGV[4], 'PX', ARGV[3], 'GET')
-- 250 ms: how far clocks may be apart before it costs a second round.
local last = now - 250000
if old then
    last = tonumber(old)
    -- An infinity modulo 1 is not 0 either.
    if not last or last % 1 ~= 0 or last >= 9007199254740991 then
        -- Half done is not done. A fence that is no number, or has no number left, was not made by us.
        if type(old) == 'string' then
            redis.call('SET', KEYS[2], old, 'PX', ARGV[3])
            old = redis.error_reply('FENCE the fence of this key holds no number of ours')
        end
        redis.call('DEL', KEYS[1])
        return old
    end
else
    -- A fence that has run out is behind the clock, or was ahead of it and is behind this.
    local high = tonumber(redis.pcall('GET', KEYS[4]))
    if high and high > last and high < 9007199254740991 then
        last = high
    end
end
if number <= last or number <= base or number <= floor or number > now + 250000 then
    number = math.max(last, base, floor) + 1
    redis.call('SET', KEYS[2], string.format('%.0f', number), 'PX', ARGV[3])
    if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[4])) or 0) then
        redis.call('SET', KEYS[4], string.format('%.0f', number))
    end
end
return {1, number, now}
