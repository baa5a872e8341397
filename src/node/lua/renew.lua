-- Extends the time to live of a key that has this owner token. Never shortens it, never creates a key.
--
-- KEYS[1]  the lock's key
-- ARGV[1]  the owner token
-- ARGV[2]  the new time to live in milliseconds
--
-- Returns   1  renewed: the key lives for at least ARGV[2] from now
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
if value ~= ARGV[1] then
    return 0
end

-- Redis 6.2 has no PEXPIRE ... GT, so the script compares. A script is atomic.
local left = redis.pcall('PTTL', KEYS[1])
if type(left) == 'table' then
    return left
end
-- -1 means that the holder's own key lost its expiry: set it again, because otherwise the key of a crashed
-- holder would stay forever. The lease ends at its deadline in any case.
if left < tonumber(ARGV[2]) then
    local reply = redis.pcall('PEXPIRE', KEYS[1], ARGV[2])
    if type(reply) == 'table' then
        return reply
    end
    if reply == 0 then
        return -1
    end
end
return 1
