# shellcheck shell=bash
# What the fake Slurm tools share. They act on files in $FAKE_SLURM_DIR, which the test writes and reads:
#
#   calls.jsonl              each call, appended: {"tool":"sbatch","argv":["--parsable","x"]}
#   TOOL.stdout .stderr .rc  a canned answer, given instead of the tool's own
#   TOOL.delay               seconds to sleep before answering
#   jobs/ID/                 a job: the files state exit reason nodes name submit start end elapsed limit; all but state optional
#   jobs/ID/steps/N/         a step: name, pids
#   squeue.hide sacct.hide   ids, one a line, that the tool does not know (any more, or yet)
#   accounting.off           sacct says that accounting is disabled
#   associations default_account   what sacctmgr tells; without the first there is no accounting
#   config archs             what scontrol tells of the cluster
#   partitions partitions.all   what sinfo tells, and with --all
#   srun.help srun.busy      options that srun has; no node is free
#   nodes                    names of the cluster's nodes, one a line [localhost]
#   run_jobs                 when it is there, sbatch really runs the script, in the background
#
# FAKE_SLURM_BANNER=1 puts a site's banner before and after everything a tool says on stdout.
set -u
D=${FAKE_SLURM_DIR:?FAKE_SLURM_DIR is not set}
tool=${0##*/}

json_string() {
	local s=$1
	s=${s//\\/\\\\} s=${s//\"/\\\"} s=${s//$'\n'/\\n} s=${s//$'\t'/\\t} s=${s//$'\r'/\\r}
	printf '"%s"' "$s"
}
log_call() {
	local line arg sep=''
	line="{\"tool\":\"$tool\",\"argv\":["
	for arg in "$@"; do line+=$sep$(json_string "$arg") sep=,; done
	printf '%s]}\n' "$line" >>"$D/calls.jsonl"      # one write: appends of parallel calls do not mix
}
banner() { [ "${FAKE_SLURM_BANNER:-0}" != 1 ] || printf '%s\n' '' '*****' "* $1 *" '*****' ''; }

# begin TOOL-ARGUMENTS: log, banner, delay, canned answer
begin() {
	log_call "$@"
	banner 'Welcome to fake | 512 nodes'
	trap 'banner "Quota: 5 of 10 TB used"' EXIT
	[ ! -e "$D/$tool.delay" ] || sleep "$(<"$D/$tool.delay")"
	if [ -e "$D/$tool.stdout" ] || [ -e "$D/$tool.stderr" ] || [ -e "$D/$tool.rc" ]; then
		if [ -e "$D/$tool.stdout" ]; then cat "$D/$tool.stdout"; fi
		if [ -e "$D/$tool.stderr" ]; then cat "$D/$tool.stderr" >&2; fi
		exit "$(cat "$D/$tool.rc" 2>/dev/null || echo 0)"
	fi
}
fail() { printf '%s: error: %s\n' "$tool" "$1" >&2; exit "${2:-1}"; }

has_job() { [ -e "$D/jobs/$1/state" ]; }
hidden() { grep -qx -- "$1" "$D/$tool.hide" 2>/dev/null; }
get() { cat "$D/jobs/$1/$2" 2>/dev/null || printf '%s' "${3:-}"; }      # get ID FILE [DEFAULT]
put() { printf '%s' "$3" >"$D/jobs/$1/.$2.$$" && mv "$D/jobs/$1/.$2.$$" "$D/jobs/$1/$2"; }   # put ID FILE VALUE: whole or not at all
ended() { case $1 in COMPLETED|CANCELLED*|FAILED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY|PREEMPTED) return 0 ;; esac; return 1; }

# option NAME ARGUMENTS: the value of the last --NAME=VALUE
option() {
	local name=$1 arg value=''; shift
	for arg in "$@"; do case $arg in "--$name="*) value=${arg#*=} ;; esac; done
	printf '%s' "$value"
}
