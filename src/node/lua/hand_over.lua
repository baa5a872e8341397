-- Deletes a key if it is still ours, and calls the process that has waited longest for it, or tells that one waits.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its line: the processes that wait for it here
-- ARGV[1]  our token
-- ARGV[2]  our name in lines
-- ARGV[3]  1 to call, 0 where the next in our own process takes the key first
--
-- Returns   2  it was ours and is gone, and somebody waits here, who was called if that was asked
--           1  it was ours and is gone, and nobody waits here
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
local done = redis.pcall('DEL', KEYS[1])
if done ~= 1 then
    return done
end
if ARGV[3] == '1' then
    return 1 + call_next(ARGV[2])
end
local head = redis.pcall('ZRANGE', KEYS[2], -1, -1)[1]
return head and head ~= ARGV[2] and 2 or 1
