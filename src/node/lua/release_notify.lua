-- Deletes a key if it has this owner token. Notifies the longest waiting process, or reports if one waits.
--
-- The notification does not depend on the key's owner on this node, because the lock was held and is released
-- now.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its wait queue on this node: a sorted set of processes
-- ARGV[1]  the owner token
-- ARGV[2]  the process's name in wait queues
-- ARGV[3]  1 to notify, 0 if the next waiter of the same process acquires first (local hand-off)
--
-- Returns   4  there is no key, and a process waits; it was notified if requested
--           3  the same, but another owner's key, or one of another type
--           2  the same, but the key was deleted
--           1  deleted, and no process waits
--           0  another owner's key, or one of another type, and no process waits
--          -1  there is no key, and no process waits
-- or the error reply of a command that the server rejected.

local value = redis.pcall('GET', KEYS[1])
-- WRONGTYPE proves another owner. Other errors, such as NOPERM or LOADING, prove nothing.
if type(value) == 'table' and not (value.err and string.find(value.err, 'WRONGTYPE', 1, true)) then
    return value
end
local is_owner = value == ARGV[1]
if is_owner then
    -- pcall keeps the error code in front; Redis 6.2 hides it when the script itself fails.
    local reply = redis.pcall('DEL', KEYS[1])
    if reply ~= 1 then
        return reply
    end
end
local has_waiter
if ARGV[3] == '1' then
    has_waiter = notify_next(ARGV[2], false) == 1
else
    local head = redis.pcall('ZRANGE', KEYS[2], -1, -1)[1]
    has_waiter = head and head ~= ARGV[2]
end
if is_owner then
    return has_waiter and 2 or 1
end
if value then
    return has_waiter and 3 or 0
end
return has_waiter and 4 or -1
