-- Returns a key's owner token and remaining time. Writes nothing.
--
-- KEYS[1]  the lock's key
--
-- Returns  {0, '', -2}       there is no key
--          {1, value, left}  a string: its first 256 bytes, which hold every whole owner token
--          {2, '', left}     a key of another type
-- with left in milliseconds, -1 for a key that never expires;
-- or the error reply of a command that the server rejected.

local value = redis.pcall('GET', KEYS[1])
if value == false then
    return {0, '', -2}
end
local kind = 1
if type(value) == 'table' then
    if not (value.err and string.find(value.err, 'WRONGTYPE', 1, true)) then
        return value
    end
    kind, value = 2, ''
end
local left = redis.pcall('PTTL', KEYS[1])
if type(left) == 'table' then
    return left
end
return {kind, string.sub(value, 1, 256), left}
