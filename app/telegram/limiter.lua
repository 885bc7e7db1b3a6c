-- Grants one message to a chat a slot, or returns how long it must wait.
-- KEYS: 1 the bot's next free slot, 2 the bot's pause, 3 the chat's next free slot, 4 the chat's pause,
--       5 the slots of a group within the last minute
-- ARGV: 1 ms between slots of the bot, 2 ms between slots of a chat, 3 messages of a group in its window (0: no group),
--       4 that window in ms, 5 ms that the caller needs before it can send, 6 the longest wait for a slot in ms
-- Returns {1, ms until the slot} or {0, ms after which to try again}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local group_size, window = tonumber(ARGV[3]), tonumber(ARGV[4])

local function at(key)
  return tonumber(redis.call('GET', key)) or 0
end

local ready = math.max(at(KEYS[2]), at(KEYS[3]), at(KEYS[4]))
if group_size > 0 then
  local oldest = tonumber(redis.call('LINDEX', KEYS[5], group_size - 1))
  if oldest then
    ready = math.max(ready, oldest + window)
  end
end
if ready > now then
  return {0, ready - now}
end

local slot = math.max(now + tonumber(ARGV[5]), at(KEYS[1]))
if slot - now > tonumber(ARGV[6]) then
  return {0, slot - now}
end
local bot_next, chat_next = slot + tonumber(ARGV[1]), slot + tonumber(ARGV[2])
redis.call('SET', KEYS[1], bot_next, 'PX', bot_next - now + 1000)
redis.call('SET', KEYS[3], chat_next, 'PX', chat_next - now + 1000)
if group_size > 0 then
  redis.call('LPUSH', KEYS[5], slot)
  redis.call('LTRIM', KEYS[5], 0, group_size - 1)
  redis.call('PEXPIRE', KEYS[5], slot - now + window + 1000)
end
return {1, slot - now}
