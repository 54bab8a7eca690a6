"""Programs started, by the process that started them: a shell starts 23."""

SHOWS = "program: tp_btf"
NEEDS = ("tp_btf",)
OPTIONS = {}


def prove(session, sh):
    shell = int(sh("sh -c 'echo $$; i=0; while [ $i -lt 23 ]; do /bin/true; i=$((i+1)); done'"))
    assert session.maps["children"].df()["value"][shell] == 23
    return "23 programs started"
