-- Restores the request counters of a day. It never lowers a counter.
-- KEYS: 1 requests of the day by scope
-- ARGV: 1 ms to keep the counters, then each scope and its number of requests
redis.call('HSET', KEYS[1], 'restored', 1)
for index = 2, #ARGV, 2 do
  local counted = tonumber(redis.call('HGET', KEYS[1], ARGV[index])) or 0
  redis.call('HSET', KEYS[1], ARGV[index], math.max(counted, tonumber(ARGV[index + 1])))
end
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[1]))
