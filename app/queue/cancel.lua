-- Queued: canceled at once. Running: marked; the worker sees it at its next beat, and a result that races
-- with the mark is not taken. Ended or unknown: nothing.
local id = ARGV[1]
local status, cancel, progress = fields(id, 'status', 'cancel', 'progress')
if status == S.QUEUED then
  leave_line(id)
  close(id, S.CANCELED)
elseif RUNNING[status] and not cancel then
  redis.call('HSET', JOB .. id, 'cancel', 1)
  tell(id, 'progress', progress)
end
