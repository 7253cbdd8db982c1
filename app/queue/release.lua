-- A worker gives jobs back unharmed: the attempt does not count, the place in line is the old one.
for i = 2, #ARGV do
  local owner, cancel = fields(ARGV[i], 'owner', 'cancel')
  if owner == ARGV[1] then
    if cancel then
      close(ARGV[i], S.CANCELED)
    else
      redis.call('HINCRBY', JOB .. ARGV[i], 'attempt', -1)
      requeue(ARGV[i], 0, false)
    end
  end
end
