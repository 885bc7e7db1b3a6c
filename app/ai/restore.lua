-- Puts back what was made today. A counter never goes down.
-- KEYS: 1 requests of the day by scope
-- ARGV: 1 ms for which they are kept, then scopes with their requests
redis.call('HSET', KEYS[1], 'known', 1)
for place = 2, #ARGV, 2 do
  local counted = tonumber(redis.call('HGET', KEYS[1], ARGV[place])) or 0
  redis.call('HSET', KEYS[1], ARGV[place], math.max(counted, tonumber(ARGV[place + 1])))
end
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[1]))
