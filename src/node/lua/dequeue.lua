-- Takes a process out of a line. If it was called, or nobody is and the key is free, the next is called.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its line: the processes that wait for it here
-- ARGV[1]  our name in lines
--
-- Returns   1  somebody was called
--           0  nobody was
-- or the error reply of a command that the server refused.

local place = redis.call('ZSCORE', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
-- A call is the next one's, whatever stands here: the key may be one that has nothing to do with the lock.
if not place or tonumber(place) > 0 then
    if redis.call('PTTL', KEYS[1]) ~= -2 then
        return 0
    end
    local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
    if not head[1] or tonumber(head[2]) < 0 then
        return 0
    end
end
return notify_next('', false)
