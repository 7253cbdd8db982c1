-- Hand in a failure: 1, or 0 when the lease was lost. A retryable one waits 1, 2, 4 ... times the backoff.
local worker, id, problem, retryable = unpack(ARGV)
local owner, cancel, status, by, attempt, max = fields(id, 'owner', 'cancel', 'status', 'by', 'attempt', 'max')
if owner ~= worker then return (status == S.FAILED and by == worker) and 1 or 0 end
note(id, problem)
if cancel then
  close(id, S.CANCELED)
elseif retryable == '1' and tonumber(attempt) < tonumber(max) then
  requeue(id, BACKOFF_MS * 2 ^ (attempt - 1), false)
else
  bury(id, problem)
end
return 1
