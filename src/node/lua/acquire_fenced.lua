-- Acquires a free key, with a fencing number above every earlier one of this key here. Rejected on probation.
--
-- Fencing tokens: Kleppmann, "How to do distributed locking", 2016.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- KEYS[4]  the largest number given out here for any key, of those that were then over 250 ms ahead of the
--          clock
-- ARGV[1]  the owner token
-- ARGV[2]  the time to live in milliseconds
-- ARGV[3]  for how long the fence is kept, in milliseconds: at least 1000
-- ARGV[4]  the preferred number (the hint): the same on all nodes, so that no second round is needed
-- ARGV[5]  the minimum fencing number, independent of clocks; far below 2^53
-- ARGV[6]  the expected marker
-- ARGV[7]  the end of the node's probation, in microseconds of this node's clock
-- ARGV[8]  the base: every number here must be larger. It is the end of the node's probation, or the node's
--          largest time before its clock was set back
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
local probation_end, number, min_number, base = ARGV[7] + 0, ARGV[4] + 0, ARGV[5] + 0, ARGV[8] + 0
if now < probation_end then
    return {-4, math.ceil((probation_end - now) / 1000), now}
end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if not reply then
    return {0, redis.call('PTTL', KEYS[1]), now}
end
if reply.err then
    return reply
end

-- Write the preferred number and get the old fence back: false if there was none, or an error. With correct
-- clocks, nothing more is written.
local fence_or_error = redis.pcall('SET', KEYS[2], ARGV[4], 'PX', ARGV[3], 'GET')
-- The number must be above this bound. The bound of a key without a fence tolerates clocks that differ by 250
-- ms. With larger differences, nodes give different numbers, and the holder raises the fences in a second
-- round (renew_fenced.lua).
local lower_bound = now - 250000
if fence_or_error then
    lower_bound = tonumber(fence_or_error)
    -- Infinity modulo 1 is not 0 either.
    if not lower_bound or lower_bound % 1 ~= 0 or lower_bound >= 9007199254740991 then
        -- SET failed and wrote no fence, or this library did not write the old fence: it is no number, or no
        -- larger number is left. Restore the fence in the second case, and delete the key in both.
        if type(fence_or_error) == 'string' then
            redis.call('SET', KEYS[2], fence_or_error, 'PX', ARGV[3])
            fence_or_error = redis.error_reply('FENCE the fence of this key is not a fencing number of quorlock')
        end
        redis.call('DEL', KEYS[1])
        return fence_or_error
    end
else
    -- An expired fence is below the bound by now, or is at most KEYS[4].
    local ahead = tonumber(redis.pcall('GET', KEYS[4]))
    if ahead and ahead > lower_bound and ahead < 9007199254740991 then
        lower_bound = ahead
    end
end
-- A preferred number far ahead of this clock would only push later numbers ahead, so it is not used either.
if number <= lower_bound or number <= base or number <= min_number or number > now + 250000 then
    number = math.max(lower_bound, base, min_number) + 1
    redis.call('SET', KEYS[2], string.format('%.0f', number), 'PX', ARGV[3])
    if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[4])) or 0) then
        redis.call('SET', KEYS[4], string.format('%.0f', number))
    end
end
return {1, number, now}
