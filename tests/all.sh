#!/bin/sh -u
# All tests but those on kernels of their own: `make test`. The lab waits for clusters most of the time, so the simulator's sweep
# goes beside it, under a policy that gives it a processor only while nobody else wants one (sched(7), SCHED_IDLE);
# as any other once the rest is done. What it said is shown at the end.
python=$1
log=.sweep.log

setsid chrt --idle 0 "$python" -m pytest -m sweep >$log 2>&1 &
sweep=$!
trap 'kill -- -$sweep; exit 130' INT TERM

"$python" -m pytest -m "not vm and not sweep"
rest=$?
for process in $(pgrep -s $sweep); do
	chrt --other -p 0 "$process" 2>/dev/null
done
echo "the simulator's sweep:"
wait $sweep
swept=$?
cat $log
[ $rest = 0 ] && [ $swept = 0 ]
