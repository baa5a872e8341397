-- Deletes a key if it has this owner token.
--
-- KEYS[1]  the lock's key
-- ARGV[1]  the owner token
--
-- Returns   1  deleted
--           0  another owner's key, or a key of another type
--          -1  there is no key
-- or the error reply of a command that the server rejected.

local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' then
    -- WRONGTYPE proves another owner. Other errors, such as NOPERM or LOADING, prove nothing.
    if value.err and string.find(value.err, 'WRONGTYPE', 1, true) then
        return 0
    end
    return value
end
if value ~= ARGV[1] then
    return value and 0 or -1
end
-- pcall keeps the error code in front; Redis 6.2 hides it when the script itself fails.
return redis.pcall('DEL', KEYS[1])
