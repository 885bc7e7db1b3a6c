-- Grants one request to the key that is being used up, or to the next one that may be used.
-- KEYS: 1 requests of the day by scope, 2 rests by project, 3 keys set aside, 4 the key in use, 5 the log of rotations
-- ARGV: 1 now in ms, 2 ms at which the day ends, 3 requests a day of a key and of a project, 4 rotations to keep,
--       5 ms for which the day's requests are kept, then for each key its id and its project
-- Returns {'granted', id}, {'resting', ms at which to ask again, or -1 if all are set aside},
-- or {'unknown'} if it has to be told first what was made today.
local now, day_ends, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

if redis.call('HEXISTS', KEYS[1], 'known') == 0 then
  return {'unknown'}
end

local function number(hash, scope)
  return tonumber(redis.call('HGET', hash, scope)) or 0
end

-- Returns why a key may not be used, and when it may be: -1 if somebody has to decide so.
local function refusal(id, project)
  if redis.call('HEXISTS', KEYS[3], id) == 1 then
    return 'set aside', -1
  end
  local rest = number(KEYS[2], project)
  if number(KEYS[1], 'key:' .. id) >= limit or number(KEYS[1], 'project:' .. project) >= limit then
    return 'used up', math.max(day_ends, rest)
  end
  if rest > now then
    return 'resting', rest
  end
end

local ids, projects, first = {}, {}, 1
local current = redis.call('GET', KEYS[4])
for place = 6, #ARGV, 2 do
  ids[#ids + 1], projects[#projects + 1] = ARGV[place], ARGV[place + 1]
  if ARGV[place] == current then
    first = #ids
  end
end

local why, again = 'removed', -1
for step = 0, #ids - 1 do
  local at = (first - 1 + step) % #ids + 1
  local id, project = ids[at], projects[at]
  local reason, ready = refusal(id, project)
  if id == current then
    why = reason
  end
  if not reason then
    if id ~= current then
      redis.call('SET', KEYS[4], id)
      if current then
        redis.call('LPUSH', KEYS[5], cjson.encode({at = now, from = current, to = id, reason = why}))
        redis.call('LTRIM', KEYS[5], 0, tonumber(ARGV[4]) - 1)
      end
    end
    redis.call('HINCRBY', KEYS[1], 'project:' .. project, 1)
    redis.call('HINCRBY', KEYS[1], 'key:' .. id, 1)
    redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[5]))
    return {'granted', id}
  end
  if ready >= 0 and (again < 0 or ready < again) then
    again = ready
  end
end
return {'resting', again}
