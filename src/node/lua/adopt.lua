-- Adopts a key from its owner: replaces the previous owner token by a new one. Never creates a key.
--
-- KEYS[1]  the lock's key
-- ARGV[1]  the new owner token
-- ARGV[2]  the new time to live in milliseconds
-- ARGV[3]  the previous owner token
--
-- Returns   1  adopted
--           0  another owner's key, or one of another type
--          -1  there is no key
-- or the error reply of a command that the server rejected.

local value = redis.pcall('GET', KEYS[1])
if value == false then
    return -1
end
if type(value) == 'table' then
    -- WRONGTYPE proves another owner. Other errors, such as NOPERM or LOADING, prove nothing.
    if value.err and string.find(value.err, 'WRONGTYPE', 1, true) then
        return 0
    end
    return value
end
if value ~= ARGV[3] then
    return 0
end
local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if reply.err then
    return reply
end
return 1
