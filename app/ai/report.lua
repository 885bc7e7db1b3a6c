-- Records the outcome of a request for its key, or for all keys of its project.
-- KEYS: 1 cool-downs by project, 2 disabled keys, 3 last errors, 4 cool-downs since the last success by project,
--       5 current key, 6 throttled key
-- ARGV: 1 id of the key, 2 'success', 'failure', 'throttled', 'cool down' or 'disabled', 3 error, 4 project of the key,
--       5 now in ms, then for 'cool down': 6 its end in ms, 7 its minimum in ms, which doubles from one to the next,
--       8 the maximum of the minimum in ms
-- Returns for 'cool down' its end in ms.
local id, outcome, problem, project, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local cools_until = tonumber(redis.call('HGET', KEYS[1], project)) or 0

if outcome == 'success' then
  -- This answer may belong to an older request. While the key cools down or is disabled, the error must stay visible.
  if cools_until <= now and redis.call('HEXISTS', KEYS[2], id) == 0 then
    redis.call('HDEL', KEYS[3], id)
    redis.call('HDEL', KEYS[4], project)
  end
  return
end
redis.call('HSET', KEYS[3], id, problem)
if outcome == 'throttled' then
  -- The pool may use another key already, because of an earlier request with this one.
  if redis.call('GET', KEYS[5]) == id then
    redis.call('SET', KEYS[6], id)
  end
elseif outcome == 'cool down' then
  local ends = tonumber(ARGV[6])
  -- A report during a cool-down belongs to a request that was made before it: it is not another cool-down in a row.
  if cools_until <= now then
    local earlier = redis.call('HINCRBY', KEYS[4], project, 1) - 1
    ends = math.max(ends, now + math.min(tonumber(ARGV[7]) * 2 ^ math.min(earlier, 30), tonumber(ARGV[8])))
  end
  ends = math.max(cools_until, ends)
  redis.call('HSET', KEYS[1], project, string.format('%.0f', ends))
  return ends
elseif outcome == 'disabled' then
  redis.call('HSETNX', KEYS[2], id, problem)
end
