-- Deletes a key whoever has it, makes its holder's number a smaller one, and calls the process that has waited longest.
--
-- A holder that lives takes a missing key again at its next renewal, unless a larger number was given out since. So the
-- fence is raised by one, and keeps the life that it had. Where it cannot be raised, the key is deleted all the same.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  its line: the processes that wait for it here; the key itself, which is gone by then, where no line is kept
-- KEYS[3]  the key's fence: the largest number given out for it here; absent in plain mode
-- ARGV     nothing
--
-- Returns   1  a key was there and is gone
--           0  no key was there
-- or the error reply of a command that the server refused; the key may stand then.

local fence = KEYS[3] and redis.pcall('GET', KEYS[3])
local number = type(fence) == 'string' and tonumber(fence)
-- A fence that is no number, or has no number left, was not made by us. No number modulo 1 of an infinity is 0.
if number and number % 1 == 0 and number < 9007199254740991 then
    redis.pcall('SET', KEYS[3], string.format('%.0f', number + 1), 'KEEPTTL')
end
-- pcall hands a refusal on with its own code in front (6.2 buries it when the script itself fails).
local done = redis.pcall('DEL', KEYS[1])
if type(done) ~= 'number' then
    return done
end
-- One who was called already, and where no key was there has yet to take it, is not passed over.
local score = redis.pcall('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if score and (done == 1 or tonumber(score) > 0) then
    call_next('')
end
return done
