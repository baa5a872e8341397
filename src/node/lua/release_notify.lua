-- Deletes a key that still has this owner token. Notifies the process that has waited longest, or reports that one waits.
--
-- The notification does not depend on the key's owner here: the lock was held, and is released now.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its wait queue on this node: a sorted set of processes
-- ARGV[1]  our token
-- ARGV[2]  the process's name in wait queues
-- ARGV[3]  1 to notify, 0 where the next waiter of the same process acquires first (local hand-off)
--
-- Returns   4  it is not there, and a process waits here; it was notified if requested
--           3  the same, but it is another's, or of another type
--           2  the same, but it was ours and is gone
--           1  it was ours and is gone, and no process waits here
--           0  it is another's, or of another type, and no process waits here
--          -1  it is not there, and no process waits here
-- or the error reply of a command that the server refused.

local value = redis.pcall('GET', KEYS[1])
-- Only the wrong type says whose the key is. A missing right or a loading server says nothing about it.
if type(value) == 'table' and not (value.err and string.find(value.err, 'WRONGTYPE', 1, true)) then
    return value
end
local was_ours = value == ARGV[1]
if was_ours then
    -- pcall hands a refusal on with its own code in front (6.2 buries it when the script itself fails).
    local done = redis.pcall('DEL', KEYS[1])
    if done ~= 1 then
        return done
    end
end
local waits
if ARGV[3] == '1' then
    waits = notify_next(ARGV[2], false) == 1
else
    local head = redis.pcall('ZRANGE', KEYS[2], -1, -1)[1]
    waits = head and head ~= ARGV[2]
end
if was_ours then
    return waits and 2 or 1
end
if value then
    return waits and 3 or 0
end
return waits and 4 or -1
