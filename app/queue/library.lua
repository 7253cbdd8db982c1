-- What the scripts share. Key names, the statuses `S` and the settings in capitals come before it.
-- Time is the server's, so no other clock matters.

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

local RUNNING = { [S.STARTING] = true, [S.PROCESSING] = true }
local ENDED = { [S.SUCCEEDED] = 'completed', [S.FAILED] = 'failed', [S.CANCELED] = 'canceled', [S.EXPIRED] = 'expired' }

local function fields(id, ...)
  return unpack(redis.call('HMGET', JOB .. id, ...))
end

-- Hint at change number `seq` of a job. `data` is JSON and is passed on as it is.
local function hint(id, seq, kind, data)
  redis.call('PUBLISH', EVENTS .. id, '{"id":' .. cjson.encode(id) .. ',"seq":' .. seq
    .. ',"type":"' .. kind .. '","data":' .. (data or '{}') .. '}')
end

-- Count a visible change and hint at it.
local function tell(id, kind, data)
  hint(id, redis.call('HINCRBY', JOB .. id, 'seq', 1), kind, data)
end

-- From the index of one status into that of another; the caller writes it into the record.
local function move(id, from, to, model, priority)
  local created = redis.call('ZSCORE', STATUS .. from, id)
  if from == S.QUEUED then redis.call('ZREM', LINE .. priority .. ':' .. model, id) end
  if to == S.QUEUED then redis.call('ZADD', LINE .. priority .. ':' .. model, now_us, id) end
  redis.call('ZREM', STATUS .. from, id)
  redis.call('ZADD', STATUS .. to, created, id)
end

local function open_jobs()
  return redis.call('ZCARD', STATUS .. S.QUEUED) + redis.call('ZCARD', LEASES)
end

-- Add to the number of a model's, a client's and a key's open jobs. Of those without any nothing is kept.
local function count_open(model, client, account, change)
  if redis.call('HINCRBY', MODELS, model, change) <= 0 then redis.call('HDEL', MODELS, model) end
  if redis.call('HINCRBY', CLIENTS, client, change) <= 0 then
    local flows = {}
    for i, priority in ipairs(PRIORITIES) do flows[i] = priority .. ':' .. client end
    redis.call('HDEL', CLIENTS, client)
    redis.call('HDEL', FAIR, unpack(flows))
  end
  if account and redis.call('HINCRBY', OPEN, account, change) <= 0 then redis.call('HDEL', OPEN, account) end
end

-- Which bound keeps so many more jobs out: 'queue', 'model', 'client' or nil.
local function bound_reached(model, client, jobs)
  local function reached(key, name, most)
    return most < MAX_QUEUED and (redis.call('HGET', key, name) or 0) + jobs > most
  end
  if open_jobs() + jobs > MAX_QUEUED then return 'queue' end
  if reached(MODELS, model, MAX_PER_MODEL) then return 'model' end
  if reached(CLIENTS, client, MAX_PER_CLIENT) then return 'client' end
end

-- How long until a tenth of the open jobs will be done, going by the pace of the last windows.
local function retry_after_s()
  local rate = tonumber(redis.call('HGET', PACE, 'rate') or 0)
  if rate <= 0 then return 5 end
  return math.max(1, math.min(60, math.ceil(open_jobs() / 10 / rate)))
end

local function count_completion()
  local began, count = unpack(redis.call('HMGET', PACE, 'began', 'count'))
  local elapsed = now - (began or now)
  if not began or elapsed >= 10000 then
    if began then redis.call('HSET', PACE, 'rate', count * 1000 / elapsed) end
    redis.call('HSET', PACE, 'began', now, 'count', 0)
  end
  redis.call('HINCRBY', PACE, 'count', 1)
end

-- The limits of API keys ------------------------------------------------------------------------------------

-- How long until `amount` more fits into `capacity` per `window_ms`, and the new mark that taking it would set.
-- The mark is the moment at which all that was taken will have been given back, at a steady pace.
local function fill(key, capacity, window_ms, amount)
  local mark = math.max(tonumber(redis.call('GET', key) or 0), now) + amount * window_ms / capacity
  return mark - now - window_ms, mark
end

-- Count jobs against their key's limits; where one is reached, change nothing: {'limited', what, seconds}.
local function spend(account, limits, jobs)
  if limits.max_open and (redis.call('HGET', OPEN, account) or 0) + jobs > limits.max_open then
    return { 'limited', 'max_open', retry_after_s() }
  end
  local marks = {}
  for what, entry in pairs({
    per_minute = { RATE .. account, 60000, jobs }, pixel_steps = { BUDGET .. account, 86400000, limits.spent },
  }) do
    local key, window_ms, amount = unpack(entry)
    if limits[what] then
      local wait_ms, mark = fill(key, limits[what], window_ms, amount)
      if wait_ms > 0 then return { 'limited', what, math.ceil(wait_ms / 1000) } end
      marks[key] = mark
    end
  end
  for key, mark in pairs(marks) do
    redis.call('SET', key, string.format('%.3f', mark), 'PX', math.ceil(mark - now) + 1)
  end
end

-- What keeps jobs of one model and client out, or nil: then they are counted against their key's limits.
local function refusal(model, client, account, limits, jobs)
  local full = bound_reached(model, client, jobs)
  if full then return { 'full', retry_after_s(), full } end
  return account and spend(account, cjson.decode(limits), jobs)
end

-- Of jobs that are queued all or none, the first new one asks for all of them, `owing`; its answer is everyone's.
local owing, refused = 0, nil

-- Waiting --------------------------------------------------------------------------------------------------

-- Keep a group's entry in its model's index equal to the score of its first job.
local function rank(model, group)
  local first = redis.call('ZRANGE', WAITING .. model .. ':' .. group, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', GROUPS .. model, first[2], group)
  else
    redis.call('ZREM', GROUPS .. model, group)
  end
end

local function stand_in_line(id, model, group, score)
  redis.call('ZADD', WAITING .. model .. ':' .. group, score, id)
  redis.call('ZADD', GROUPS .. model, 'LT', score, group)
  if redis.call('LLEN', BELL .. model) < 64 then redis.call('LPUSH', BELL .. model, 1) end
end

-- How many jobs wait for the model before one of this score.
local function ahead(model, score)
  local before, count = '(' .. score, 0
  for _, group in ipairs(redis.call('ZRANGEBYSCORE', GROUPS .. model, '-inf', before)) do
    count = count + redis.call('ZCOUNT', WAITING .. model .. ':' .. group, '-inf', before)
  end
  return count
end

local function stand_in_line_again(id)
  stand_in_line(id, fields(id, 'model', 'group', 'score'))
end

local function leave_line(id)
  local model, group = fields(id, 'model', 'group')
  redis.call('ZREM', WAITING .. model .. ':' .. group, id)
  redis.call('ZREM', DELAYED, id)
  redis.call('ZREM', DEADLINES, id)
  rank(model, group)
end

-- Self-clocked fair queueing: a job starts where the last one of its client and priority ends, or at the
-- virtual time if that is later, which is the lowest score that waits for the model. `share` is its cost / its
-- priority's weight; what waits grows older as the virtual time goes on, so nothing starves.
local function fair_score(client, priority, model, share)
  local flow = priority .. ':' .. client
  local head = redis.call('ZRANGE', GROUPS .. model, 0, 0, 'WITHSCORES')
  local virtual = tonumber(head[2] or redis.call('GET', CLOCK) or 0)
  local last = tonumber(redis.call('HGET', FAIR, flow) or 0)
  local score = math.max(virtual, last) + share
  redis.call('HSET', FAIR, flow, score)
  return score
end

-- Leases ---------------------------------------------------------------------------------------------------

local function unlease(id, owner, group)
  redis.call('ZREM', LEASES, id)
  if redis.call('HINCRBY', HELD, owner, -1) <= 0 then redis.call('HDEL', HELD, owner) end
  if group == 'alone:' .. id then redis.call('HDEL', ALONE, owner) end
end

-- The only way into a terminal status. Extra arguments are fields to set; `data` goes into the event.
local function close(id, status, data, ...)
  local from, owner, group, client, model, priority, webhook, account, seq =
    fields(id, 'status', 'owner', 'group', 'client', 'model', 'priority', 'webhook', 'account', 'seq')
  if owner then unlease(id, owner, group) end
  redis.call('HSET', JOB .. id, 'status', status, 'seq', seq + 1, 'by', owner or '', 'completed', now,
    'expires', now + RESULT_TTL_MS, ...)
  redis.call('HDEL', JOB .. id, 'owner', 'cancel')
  move(id, from, status, model, priority)
  redis.call('ZADD', EXPIRY, now + RESULT_TTL_MS, id)
  count_open(model, client, account, -1)
  count_completion()
  redis.call('HINCRBY', TALLY, status .. ':' .. model, 1)
  if webhook then redis.call('ZADD', WEBHOOKS, now, id) end
  hint(id, seq + 1, ENDED[status], data)
end

-- Back from a worker into the line. `alone`: from now on it shares a worker with no other job.
local function requeue(id, delay_ms, alone)
  local from, owner, deadline, model, priority, group, score =
    fields(id, 'status', 'owner', 'deadline', 'model', 'priority', 'group', 'score')
  unlease(id, owner, group)
  if alone then group = 'alone:' .. id end
  if deadline then redis.call('ZADD', DEADLINES, deadline, id) end
  redis.call('HDEL', JOB .. id, 'owner', 'started', 'progress')
  redis.call('HSET', JOB .. id, 'status', S.QUEUED, 'group', group)
  move(id, from, S.QUEUED, model, priority)
  if delay_ms > 0 then redis.call('ZADD', DELAYED, now + delay_ms, id) else stand_in_line(id, model, group, score) end
  tell(id, 'queued')
end

-- Write a failed attempt into the job's history.
local function note(id, problem)
  local owner, attempt, errors = fields(id, 'owner', 'attempt', 'errors')
  local entry = '{"attempt":' .. attempt .. ',"at_ms":' .. now .. ',"worker":' .. cjson.encode(owner)
    .. ',"error":' .. problem .. '}'
  errors = errors and errors:sub(1, -2) .. ',' .. entry .. ']' or '[' .. entry .. ']'
  redis.call('HSET', JOB .. id, 'errors', errors)
end

local function bury(id, problem)
  local errors, account = fields(id, 'errors', 'account')
  local letter = redis.call('XADD', DEAD, 'MAXLEN', '~', 10000, '*', 'id', id, 'errors', errors,
    'account', account or '')
  close(id, S.FAILED, problem, 'error', problem, 'letter', letter)
end

local LOST = '{"code":"worker_lost","message":"the worker that ran the job stopped answering","retryable":true}'

-- Take jobs whose lease has run out from their workers; how many.
local function take_back(limit)
  local late = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, limit)
  for _, id in ipairs(late) do
    local attempt, max, cancel, model = fields(id, 'attempt', 'max', 'cancel', 'model')
    note(id, LOST)
    redis.call('HINCRBY', TALLY, 'takeover:' .. model, 1)
    if cancel then
      close(id, S.CANCELED)
    elseif tonumber(attempt) >= tonumber(max) then
      bury(id, LOST)
    else
      requeue(id, 0, true)
    end
  end
  return #late
end

-- Put delayed jobs whose time has come in line.
local function wake(limit)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, limit)) do
    redis.call('ZREM', DELAYED, id)
    stand_in_line_again(id)
  end
end

-- End jobs that have waited for too long.
local function expire(limit)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now, 'LIMIT', 0, limit)) do
    leave_line(id)
    close(id, S.EXPIRED)
  end
end

-- Remove an ended job and all that points to it.
local function forget(id)
  local status, created, tags, idempotency, letter, account =
    fields(id, 'status', 'created', 'tags', 'idempotency', 'letter', 'account')
  if account then redis.call('ZREM', ACCOUNT .. account, id) end
  for _, tag in ipairs(tags and cjson.decode(tags) or {}) do redis.call('ZREM', TAG .. tag, id) end
  if idempotency and redis.call('GET', idempotency) == id then redis.call('DEL', idempotency) end
  if letter then redis.call('XDEL', DEAD, letter) end
  redis.call('ZREM', STATUS .. status, id)
  redis.call('ZREM', EXPIRY, id)
  redis.call('ZREM', WEBHOOKS, id)
  redis.call('DEL', JOB .. id, DELIVERIES .. id)
  redis.call('SADD', LITTER, id .. ':' .. created)
end
