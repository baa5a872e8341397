-- Acquires a free key with a fencing number above every earlier one, unless this node is on probation.
--
-- Fencing tokens: Kleppmann, "How to do distributed locking", 2016.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- KEYS[4]  the largest number of any key here that was ahead of the clock when it was given out
-- ARGV[1]  the owner token
-- ARGV[2]  the time to live in milliseconds
-- ARGV[3]  for how long the fence is kept, in milliseconds: at least 1000
-- ARGV[4]  the wanted number
-- ARGV[5]  the minimum fencing number, independent of clocks; far below 2^53
-- ARGV[6]  the expected marker
-- ARGV[7]  the end of the node's probation, in microseconds of this node's clock
-- ARGV[8]  the base of this node's numbers: all are larger
--
-- Returns  { 1, number, now}  acquired, with this number; now in microseconds
--          { 0, left, now}    held by another owner, for this many milliseconds; -1: forever
--          {-3, 0, now}       the marker is not the expected one
--          {-4, left, now}    on probation, for this many milliseconds
-- or the error reply of a command that the server rejected; the key is not acquired then.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[6] then
    return {-3, 0, now}
end
-- Adding 0 converts like tonumber, but faster. It fails on invalid input, so it comes before any write.
local votes_from, number, min_number, base = ARGV[7] + 0, ARGV[4] + 0, ARGV[5] + 0, ARGV[8] + 0
if now < votes_from then
    return {-4, math.ceil((votes_from - now) / 1000), now}
end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if not reply then
    return {0, redis.call('PTTL', KEYS[1]), now}
end
if reply.err then
    return reply
end

-- Write the wanted number first and get the old fence back. With correct clocks, nothing more is needed.
local old = redis.pcall('SET', KEYS[2], ARGV[4], 'PX', ARGV[3], 'GET')
-- 250 ms: clocks may differ this much before an acquire costs a second round.
local largest = now - 250000
if old then
    largest = tonumber(old)
    -- Infinity modulo 1 is not 0 either.
    if not largest or largest % 1 ~= 0 or largest >= 9007199254740991 then
        -- The fence is no number, or no larger number is left: this library did not write it. Revert both
        -- writes.
        if type(old) == 'string' then
            redis.call('SET', KEYS[2], old, 'PX', ARGV[3])
            old = redis.error_reply('FENCE the fence of this key is not a fencing number of quorlock')
        end
        redis.call('DEL', KEYS[1])
        return old
    end
else
    -- An expired fence is below the clock, or was ahead of it and is at most KEYS[4].
    local ahead = tonumber(redis.pcall('GET', KEYS[4]))
    if ahead and ahead > largest and ahead < 9007199254740991 then
        largest = ahead
    end
end
if number <= largest or number <= base or number <= min_number or number > now + 250000 then
    number = math.max(largest, base, min_number) + 1
    redis.call('SET', KEYS[2], string.format('%.0f', number), 'PX', ARGV[3])
    if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[4])) or 0) then
        redis.call('SET', KEYS[4], string.format('%.0f', number))
    end
end
return {1, number, now}
