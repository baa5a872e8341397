-- Lengthens the life of a key that is still ours. Never shortens it, never creates a key.
--
-- KEYS[1]  the lock's key
-- ARGV[1]  our token
-- ARGV[2]  the new time to live in milliseconds
--
-- Returns   1  ours, and lives for at least ARGV[2] from now
--           0  another's (a key of another type is another's too)
--          -1  not there
-- or the error reply of a command that the server refused.

local value = redis.pcall('GET', KEYS[1])
if value == false then
    return -1
end
if type(value) == 'table' then
    -- Only the wrong type says whose the key is. A missing right or a loading server says nothing about it.
    if value.err and string.find(value.err, 'WRONGTYPE', 1, true) then
        return 0
    end
    return value
end
if value ~= ARGV[1] then
    return 0
end

-- Redis 6.2 has no PEXPIRE ... GT, so the comparison is made here; a script is one step, nothing comes between.
local left = redis.pcall('PTTL', KEYS[1])
if type(left) == 'table' then
    return left
end
-- A left of -1 is our own key that lost its expiry. It is given an expiry again: our lease ends by our
-- deadline whatever the key does, and a key without an expiry would outlive a crashed owner forever.
if left < tonumber(ARGV[2]) then
    local done = redis.pcall('PEXPIRE', KEYS[1], ARGV[2])
    if type(done) == 'table' then
        return done
    end
    if done == 0 then
        return -1
    end
end
return 1
