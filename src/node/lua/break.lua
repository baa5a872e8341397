-- Deletes a key whoever has it, and makes its holder's number a smaller one.
--
-- A holder that lives takes a missing key again at its next renewal, unless a larger number was given out since. So the
-- fence is raised by one, and keeps the life that it had. Where it cannot be raised, the key is deleted all the same.
-- Those who wait are called when all nodes have answered: one who is called sooner may have the next key deleted.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- ARGV     nothing
--
-- Returns   1  a key was there and is gone
--           0  no key was there
-- or the error reply of a command that the server refused; the key may stand then.

local fence = redis.pcall('GET', KEYS[2])
local number = type(fence) == 'string' and tonumber(fence)
-- A fence that is no number, or has no number left, was not made by us. An infinity modulo 1 is not 0 either.
if number and number % 1 == 0 and number < 9007199254740991 then
    redis.pcall('SET', KEYS[2], string.format('%.0f', number + 1), 'KEEPTTL')
end
-- pcall hands a refusal on with its own code in front (6.2 buries it when the script itself fails).
return redis.pcall('DEL', KEYS[1])
