SEC("freplace")
int another_weight(u32 pid)
{
    return pid ? 5 : 0;
}
