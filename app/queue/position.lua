-- How many jobs wait before this one for the same model; false when it does not wait.
local id = ARGV[1]
local status, model, group, score = fields(id, 'status', 'model', 'group', 'score')
if status ~= S.QUEUED then return false end
local before = '(' .. score
local count = redis.call('ZCOUNT', WAITING .. model .. ':' .. group, '-inf', before)
for _, other in ipairs(redis.call('ZRANGEBYSCORE', GROUPS .. model, '-inf', before)) do
  if other ~= group then count = count + redis.call('ZCOUNT', WAITING .. model .. ':' .. other, '-inf', before) end
end
return count
