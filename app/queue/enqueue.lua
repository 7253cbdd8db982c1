-- A new job into the line:
-- {'created', now} | {'known', id} | {'conflict', id} | {'full', seconds, of what} | {'limited', what, seconds}
local id, digest, idempotency, model, group, client, rows, share, priority, delay_ms, deadline_ms, webhook,
  resolved, input, tags, metadata, account, limits, traceparent = unpack(ARGV)

local first = idempotency ~= '' and redis.call('GET', IDEMPOTENCY .. idempotency) or id
local before = fields(first, 'digest')
if before then return { before == digest and 'known' or 'conflict', first } end
local full = bound_reached(model, client)
if full then return { 'full', retry_after_s(), full } end
local over = account ~= '' and spend(account, cjson.decode(limits))
if over then return over end

redis.call('HSET', JOB .. id, 'status', S.QUEUED, 'model', model, 'group', group, 'client', client, 'rows', rows,
  'share', share, 'priority', priority, 'score', fair_score(client, priority, model, tonumber(share)), 'resolved', resolved, 'input', input,
  'digest', digest, 'created', now, 'attempt', 0, 'max', MAX_ATTEMPTS)
if idempotency ~= '' then
  redis.call('SET', IDEMPOTENCY .. idempotency, id, 'PX', IDEMPOTENCY_TTL_MS)
  redis.call('HSET', JOB .. id, 'idempotency', IDEMPOTENCY .. idempotency)
end
if metadata ~= '{}' then redis.call('HSET', JOB .. id, 'metadata', metadata) end
if tags ~= '[]' then
  redis.call('HSET', JOB .. id, 'tags', tags)
  for _, tag in ipairs(cjson.decode(tags)) do redis.call('ZADD', TAG .. tag, now_us, id) end
end
if account ~= '' then
  redis.call('HSET', JOB .. id, 'account', account)
  redis.call('ZADD', ACCOUNT .. account, now_us, id)
end
redis.call('ZADD', INDEX, now_us, id)
redis.call('ZADD', STATUS .. S.QUEUED, now_us, id)
redis.call('ZADD', LINE .. priority .. ':' .. model, now_us + delay_ms * 1000, id)
if traceparent ~= '' then redis.call('HSET', JOB .. id, 'traceparent', traceparent) end
if webhook ~= '' then redis.call('HSET', JOB .. id, 'webhook', webhook) end
if deadline_ms ~= '' then
  redis.call('HSET', JOB .. id, 'deadline', now + deadline_ms)
  redis.call('ZADD', DEADLINES, now + deadline_ms, id)
end
count_open(model, client, 1)
if tonumber(delay_ms) > 0 then redis.call('ZADD', DELAYED, now + delay_ms, id) else stand_in_line(id) end
tell(id, 'queued')
return { 'created', now }
