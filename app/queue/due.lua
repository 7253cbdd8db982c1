-- Webhooks whose time has come, held back for as long as sending one may take: {{id, which try}, ...}
local limit, hold_ms, out = ARGV[1], ARGV[2], {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZADD', WEBHOOKS, now + hold_ms, id)
  out[#out + 1] = { id, redis.call('HINCRBY', JOB .. id, 'tries', 1) }
end
return out
