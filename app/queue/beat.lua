-- Renew leases and report. ARGV: worker, then per job: id, progress or '', n, n times (type, data).
-- Per job: 'ok' | 'cancel' | 'lost'
local worker, at, out = ARGV[1], 2, {}
while ARGV[at] do
  local id, progress, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local owner, cancel, status = fields(id, 'owner', 'cancel', 'status')
  if owner ~= worker then
    out[#out + 1] = 'lost'
  else
    redis.call('ZADD', LEASES, 'XX', now + LEASE_MS, id)
    if progress ~= '' then
      if status == S.STARTING then move(id, S.STARTING, S.PROCESSING) end
      redis.call('HSET', JOB .. id, 'status', S.PROCESSING, 'progress', progress)
      tell(id, 'progress', progress)
    end
    for k = at + 3, at + 1 + 2 * count, 2 do tell(id, ARGV[k], ARGV[k + 1]) end
    out[#out + 1] = cancel and 'cancel' or 'ok'
  end
  at = at + 3 + 2 * count
end
return out
