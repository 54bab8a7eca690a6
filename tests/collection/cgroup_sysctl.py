"""Settings of the kernel that a cgroup's processes read: net/core/optmem_max, 17 times."""

SHOWS = "program: cgroup_sysctl"
NEEDS = ("cgroup_sysctl",)
OPTIONS = {"attach": {"on_sysctl": "cgroup:/"}, "allow_change": True}


def prove(session, sh):
    sh("""python3 -c 'import os; [os.read(os.open("/proc/sys/net/core/optmem_max", 0), 32) for _ in range(17)]'""")
    assert session.maps["reads"].df()["value"].tolist() == [17]
    return "17 reads of optmem_max"
