-- A new job into the line:
-- {'created', now, how many wait before it or -1} | {'known', id} | {'conflict', id} | {'full', seconds, of what} | {'limited', what, seconds}
local id, digest, idempotency, model, group, client, rows, share, priority, delay_ms, deadline_ms, webhook,
  resolved, input, tags, metadata, account, limits, traceparent, place, together = unpack(ARGV)
if account == '' then account = nil end
if tonumber(together) > 0 then owing = tonumber(together) end

local first = idempotency ~= '' and redis.call('GET', IDEMPOTENCY .. idempotency) or id
local before = fields(first, 'digest')
if before then return { before == digest and 'known' or 'conflict', first } end
if owing > 0 then refused, owing = refusal(model, client, account, limits, owing), 0 end
if refused then return refused end

local score = fair_score(client, priority, model, tonumber(share))
local record = { 'status', S.QUEUED, 'seq', 1, 'model', model, 'group', group, 'client', client, 'rows', rows,
  'share', share, 'priority', priority, 'score', score, 'resolved', resolved, 'input', input, 'digest', digest,
  'created', now, 'attempt', 0, 'max', MAX_ATTEMPTS }
local function note_down(name, value)
  record[#record + 1], record[#record + 2] = name, value
end
if idempotency ~= '' then
  redis.call('SET', IDEMPOTENCY .. idempotency, id, 'PX', IDEMPOTENCY_TTL_MS)
  note_down('idempotency', IDEMPOTENCY .. idempotency)
end
if metadata ~= '{}' then note_down('metadata', metadata) end
if webhook ~= '' then note_down('webhook', webhook) end
if traceparent ~= '' then note_down('traceparent', traceparent) end
if tags ~= '[]' then
  note_down('tags', tags)
  for _, tag in ipairs(cjson.decode(tags)) do redis.call('ZADD', TAG .. tag, now_us, id) end
end
if account then
  note_down('account', account)
  redis.call('ZADD', ACCOUNT .. account, now_us, id)
end
if deadline_ms ~= '' then
  note_down('deadline', now + deadline_ms)
  redis.call('ZADD', DEADLINES, now + deadline_ms, id)
end
redis.call('HSET', JOB .. id, unpack(record))
redis.call('ZADD', STATUS .. S.QUEUED, now_us, id)
redis.call('ZADD', LINE .. priority .. ':' .. model, now_us + delay_ms * 1000, id)
count_open(model, client, account, 1)
if tonumber(delay_ms) > 0 then
  redis.call('ZADD', DELAYED, now + delay_ms, id)
else
  stand_in_line(id, model, group, score)
end
hint(id, 1, 'queued')
return { 'created', now, place == '1' and ahead(model, score) or -1 }
