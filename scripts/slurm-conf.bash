# shellcheck shell=bash
# What slurm-cluster writes into $S/etc: slurm.conf, gres.conf, cgroup.conf, plugstack.conf. Sourced by slurm-cluster,
# whose settings and node functions it uses.
# shellcheck disable=SC2154 # set there

slurm_conf() {
	cat <<-EOF
	ClusterName=lab
	SlurmctldHost=$(hostname -s)(127.0.0.1)
	SlurmctldPort=$((SLURM_BASE_PORT + 17))
	SlurmUser=root
	SlurmdUser=root
	AuthType=auth/munge
	CredType=cred/munge
	AuthInfo=socket=$S/run/munge.socket,cred_expire=$REQUEUE_DELAY
	StateSaveLocation=$S/state
	SlurmdSpoolDir=$S/spool/%n
	# nodes share /tmp, and pmix would collide there
	TmpFS=$S/tmp/%n
	SlurmctldPidFile=$S/run/slurmctld.pid
	SlurmdPidFile=$S/run/%n.pid
	SlurmctldLogFile=$S/log/slurmctld.log
	SlurmdLogFile=$S/log/%n.log
	SlurmctldDebug=verbose
	SlurmdDebug=verbose
	MailProg=/bin/true
	MpiDefault=none
	SwitchType=switch/none
	PlugStackConfig=$S/etc/plugstack.conf
	LaunchParameters=use_interactive_step
	# the declared CPUs and memory stick
	SlurmdParameters=config_overrides
	ReturnToService=1
	SlurmctldTimeout=30
	SlurmdTimeout=$SLURMD_TIMEOUT
	MessageTimeout=10
	BatchStartTimeout=10
	TCPTimeout=2
	KillWait=$KILL_WAIT
	UnkillableStepTimeout=60
	MinJobAge=86400
	CompleteWait=0
	EnforcePartLimits=ALL
	MaxArraySize=1001
	# a job starts 0.3 s after sbatch
	SchedulerType=sched/backfill
	SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1,bf_continue
	SelectType=select/cons_tres
	SelectTypeParameters=CR_Core_Memory
	DefMemPerCPU=500
	PriorityType=priority/basic
	PreemptType=preempt/partition_prio
	PreemptMode=REQUEUE
	GresTypes=gpu
	JobAcctGatherType=jobacct_gather/linux
	JobAcctGatherFrequency=task=1
	JobCompType=jobcomp/filetxt
	JobCompLoc=$S/log/jobcomp.log
	EOF
	if [ "$CGROUP" = 1 ]; then
		printf '%s\n' ProctrackType=proctrack/cgroup TaskPlugin=task/cgroup
	else   # OverMemoryKill samples memory each second; with task/cgroup it is fatal
		printf '%s\n' ProctrackType=proctrack/linuxproc TaskPlugin=task/none JobAcctGatherParams=OverMemoryKill
	fi
	if [ "$ACCOUNTING" = 1 ]; then   # slurmdbd's clients take munge's socket from AccountingStoragePass, not from AuthInfo
		cat <<-EOF
		AccountingStorageType=accounting_storage/slurmdbd
		AccountingStorageHost=127.0.0.1
		AccountingStoragePort=$dbd_port
		AccountingStoragePass=$S/run/munge.socket
		AccountingStorageTRES=gres/gpu
		AccountingStoreFlags=job_comment
		EOF
	fi
	local i n t gres all="${NODE_PREFIX}[1-$NODES]"
	for i in "${every_node[@]}"; do
		n=$(node "$i") t=$(gpu_type "$i") gres=''
		if [ "$GPUS" -gt 0 ]; then gres="Gres=gpu:$t:$GPUS"; fi
		echo "NodeName=$n NodeHostname=$n NodeAddr=$(addr "$i") Port=$(slurmd_port "$i") CPUs=$CPUS Boards=1 SocketsPerBoard=1" \
			"CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$MEM_MB Feature=$(features "$t") $gres State=UNKNOWN"
	done
	[ "$NODES" != 1 ] || all=$(node 1)
	cat <<-EOF
	PartitionName=gpu Nodes=$all Default=YES MaxTime=7-00:00:00 DefaultTime=01:00:00 PriorityTier=10 PreemptMode=OFF
	PartitionName=debug Nodes=$all MaxTime=00:30:00 DefaultTime=00:10:00 PriorityTier=10 PreemptMode=OFF
	PartitionName=preempt Nodes=$all MaxTime=7-00:00:00 DefaultTime=01:00:00 PriorityTier=1 PreemptMode=REQUEUE
	EOF
}
gres_conf() {
	echo AutoDetect=off
	[ "$GPUS" -gt 0 ] || return 0
	local i k n f
	for i in "${every_node[@]}"; do
		n=$(node "$i"); mkdir -p "$S/dev/$n"
		for ((k = 0; k < GPUS; k++)); do
			f=$S/dev/$n/nvidia$k
			[ -e "$f" ] || mknod -m 666 "$f" c 1 3 2>/dev/null || : >"$f"
		done
		echo "NodeName=$n Name=gpu Type=$(gpu_type "$i") File=$S/dev/$n/nvidia[0-$((GPUS - 1))]"
	done
}
cgroup_conf() {
	# A key that 25.x no longer has, and complains about in every log.
	if [[ $(slurmctld -V) =~ ^slurm[^\ ]*\ (1[0-9]|2[0-4])\. ]]; then echo CgroupAutomount=no; fi
	if [ "$CGROUP" = 1 ]; then
		printf '%s\n' CgroupPlugin=cgroup/v1 CgroupMountpoint=/sys/fs/cgroup ConstrainRAMSpace=yes ConstrainSwapSpace=yes AllowedSwapSpace=0
	fi
}
plugstack_conf() {
	[ "$PYXIS_STUB" != 0 ] || return 0
	cc -O2 -Wall -fPIC -shared -o "$S/lib/pyxis_stub.so" "$here/pyxis_stub.c" || die "cannot build $here/pyxis_stub.c"
	: >>"$S/log/pyxis.log"; chmod 666 "$S/log/pyxis.log"
	mkdir -p "$S/lib/containers"; chmod 1777 "$S/lib/containers"
	local rootfs=''
	if [ "$PYXIS_STUB" = 2 ]; then mkdir -p "$S/lib/rootfs"; rootfs="rootfs=$S/lib/rootfs"; fi
	echo "required $S/lib/pyxis_stub.so log=$S/log/pyxis.log containers=$S/lib/containers $rootfs"
}
write_conf() {
	slurm_conf >"$conf"
	gres_conf >"$S/etc/gres.conf"
	cgroup_conf >"$S/etc/cgroup.conf"
	plugstack_conf >"$S/etc/plugstack.conf"
	settings >"$S/settings"
}
