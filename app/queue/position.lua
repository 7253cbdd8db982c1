-- How many jobs wait before this one for the same model; false when it does not wait.
local status, model, score = fields(ARGV[1], 'status', 'model', 'score')
return status == S.QUEUED and ahead(model, score)
