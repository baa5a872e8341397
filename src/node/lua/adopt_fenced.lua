-- Adopts a key from its owner: replaces the previous owner token by a new one, with a larger fencing number.
-- Rejected on probation. Never creates a key.
--
-- The adoption must show that no other client had the lock in between. Another client that acquired it left a
-- number above the previous owner's on a quorum of nodes. Therefore this node counts only if its fence is not
-- above that number. If the fence is above it, the key is adopted all the same, and the reply reports the fence,
-- as after a renewal.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the node's marker
-- KEYS[4]  the largest number given out here for any key, of those that were then over 250 ms ahead of the
--          clock
-- ARGV[1]  the new owner token
-- ARGV[2]  the new time to live in milliseconds
-- ARGV[3]  for how long the fence is kept, in milliseconds: at least 1000
-- ARGV[4]  the preferred number (the hint): the same on all nodes, so that no second round is needed
-- ARGV[5]  the minimum fencing number: the previous owner's or a larger one, below 2^53 - 1
-- ARGV[6]  the previous owner token
-- ARGV[7]  the previous owner's number
-- ARGV[8]  the expected marker
-- ARGV[9]  the end of the node's probation, in microseconds of this node's clock
-- (The tenth argument is the base: every number here must be larger.)
--
-- Returns  { 1, number, now}  adopted, with this number; now in microseconds
--          { 0, left, now}    another owner's key or another type, for this many milliseconds; -1: forever
--          {-1, 0, now}       there is no key
--          {-2, fence, now}   adopted, but the fence is larger than the previous owner's number
--          {-3, 0, now}       the marker is not the expected one
--          {-4, left, now}    on probation, for this many milliseconds
-- or the error reply of a command that the server rejected; the key is not adopted then.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if redis.call('GET', KEYS[3]) ~= ARGV[8] then
    return {-3, 0, now}
end
-- Adding 0 converts like tonumber. It fails on invalid input, so it comes before any write.
local probation_end, number, min_number = ARGV[9] + 0, ARGV[4] + 0, ARGV[5] + 0
local previous_number, base = ARGV[7] + 0, ARGV[10] + 0
if now < probation_end then
    return {-4, math.ceil((probation_end - now) / 1000), now}
end
local value = redis.pcall('GET', KEYS[1])
if not value then
    return {-1, 0, now}
end
if value ~= ARGV[6] then
    -- WRONGTYPE proves another owner. Other errors, such as NOPERM or LOADING, prove nothing.
    if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
        return value
    end
    return {0, redis.call('PTTL', KEYS[1]), now}
end

local fence_or_error = redis.pcall('GET', KEYS[2])
if type(fence_or_error) == 'table' then
    return fence_or_error
end
-- As in acquire_fenced.lua: the number must be above this bound.
local lower_bound = now - 250000
if fence_or_error then
    lower_bound = tonumber(fence_or_error)
    -- Infinity modulo 1 is not 0 either.
    if not lower_bound or lower_bound % 1 ~= 0 or lower_bound >= 9007199254740991 then
        return redis.error_reply('FENCE the fence of this key is not a fencing number of quorlock')
    end
    if lower_bound > previous_number then
        local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
        if reply.err then
            return reply
        end
        redis.call('PEXPIRE', KEYS[2], ARGV[3])
        return {-2, lower_bound, now}
    end
else
    local ahead = tonumber(redis.pcall('GET', KEYS[4]))
    if ahead and ahead > lower_bound and ahead < 9007199254740991 then
        lower_bound = ahead
    end
end
local text = ARGV[4]
if number <= lower_bound or number <= base or number <= min_number or number > now + 250000 then
    number = math.max(lower_bound, base, min_number) + 1
    text = string.format('%.0f', number)
end
-- The fence first: if the server rejects the key, a larger fence without a holder is harmless. A key without its
-- number is not.
local reply = redis.pcall('SET', KEYS[2], text, 'PX', ARGV[3])
if not reply.err then
    reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if reply.err then
    return reply
end
if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[4])) or 0) then
    redis.call('SET', KEYS[4], text)
end
return {1, number, now}
