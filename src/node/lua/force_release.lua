-- Deletes a key of any owner, or of one owner only, and raises the fence above its holder's number.
--
-- A living holder sets a missing key again at its next renewal, unless a larger number was given out since.
-- Therefore the fence is raised to a new number, also if there was no fence. If the fence cannot be raised,
-- the key is deleted all the same. Waiters are notified only after all nodes have replied: otherwise this
-- script could delete the new key of a notified waiter.
--
-- KEYS[1]  the lock's key
-- KEYS[2]  the key's fence: the largest number given out for it here
-- KEYS[3]  the largest number given out here for any key, of those that were then over 250 ms ahead of the
--          clock
-- ARGV[1]  for how long the fence is kept, in milliseconds; 0 for a plain lock, which has no fence
-- ARGV[2]  the owner hash that an inspection showed: only this owner's key is deleted. Empty for any owner
--
-- Returns   1  a key was deleted
--           0  there was no key
--          -1  another owner's key, or a key of another type: nothing was changed
-- or the error reply of a command that the server rejected; the key may still exist then.

-- FNV-1a of the first 256 bytes, as many as an inspection returns, in two halves of 32 bits, folded into one.
local function hash(value)
    local high, low = 0xcbf29ce4, 0x84222325
    for index = 1, math.min(#value, 256) do
        low = low - low % 256 + bit.bxor(low % 256, string.byte(value, index))
        -- Multiply by 2^40 + 0x1b3. No intermediate result has more than 53 bits.
        local product = low * 0x1b3
        high = (high * 0x1b3 + math.floor(product / 4294967296) + low * 256) % 4294967296
        low = product % 4294967296
    end
    return bit.tohex(bit.bxor(high, low))
end

if ARGV[2] ~= '' then
    local value = redis.pcall('GET', KEYS[1])
    if value == false then
        return 0
    end
    if type(value) == 'table' then
        -- WRONGTYPE proves another owner. Other errors, such as NOPERM or LOADING, prove nothing.
        if value.err and string.find(value.err, 'WRONGTYPE', 1, true) then
            return -1
        end
        return value
    end
    if hash(value) ~= ARGV[2] then
        return -1
    end
end

-- pcall keeps the error code in front; Redis 6.2 hides it when the script itself fails. DEL is the first
-- write, because a server that is out of memory rejects a script's first write unless it frees memory.
local reply = redis.pcall('DEL', KEYS[1])
if type(reply) ~= 'number' or ARGV[1] == '0' then
    return reply
end
local fence = redis.pcall('GET', KEYS[2])
local number = not fence and 0 or type(fence) == 'string' and tonumber(fence)
-- Leave a fence alone that is no number, or has no larger number left: this library did not write it.
-- Infinity modulo 1 is not 0 either.
if number and number % 1 == 0 and number < 9007199254740991 then
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    number = math.max(number + 1, now)
    redis.pcall('SET', KEYS[2], string.format('%.0f', number), 'PX', ARGV[1])
    if number > now + 250000 and number > (tonumber(redis.pcall('GET', KEYS[3])) or 0) then
        redis.pcall('SET', KEYS[3], string.format('%.0f', number))
    end
end
return reply
