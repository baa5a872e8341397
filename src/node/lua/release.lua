-- Deletes a key if it is still ours.
--
-- KEYS[1]  the lock's key
-- ARGV[1]  our token
--
-- Returns   1  it was ours and is gone
--           0  it is another's, or of another type
--          -1  it is not there
-- or the error reply of a command that the server refused.

local value = redis.pcall('GET', KEYS[1])
if type(value) == 'table' then
    -- Only the wrong type says whose the key is. A missing right or a loading server says nothing about it.
    if value.err and string.find(value.err, 'WRONGTYPE', 1, true) then
        return 0
    end
    return value
end
if value ~= ARGV[1] then
    return value and 0 or -1
end
-- pcall hands a refusal on with its own code in front (6.2 buries it when the script itself fails).
return redis.pcall('DEL', KEYS[1])
