-- Counts what a user would call a failure, and who answered; the last line is JSON. For one thread.
local thread

function setup(one)
  thread = one
end

function init(arguments)
  answers, wrong, one, two = 0, 0, 0, 0
end

function response(status, headers, body)
  answers = answers + 1
  if status ~= 200 or not body:find("</html>", -20, true) then
    wrong = wrong + 1
  end
  local version = headers["X-Application-Version"]
  if version == "1" then
    one = one + 1
  elseif version == "2" then
    two = two + 1
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '{"answers": %d, "wrong": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d,'
      .. ' "version_1": %d, "version_2": %d, "seconds": %.1f, "median": %.3f, "slowest": %.3f}',
    thread:get("answers"), thread:get("wrong"), errors.connect, errors.read, errors.write, errors.timeout,
    thread:get("one"), thread:get("two"), summary.duration / 1e6, latency:percentile(50) / 1e6, latency.max / 1e6))
end
