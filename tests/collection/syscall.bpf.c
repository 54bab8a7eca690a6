struct numbers {
    u64 first;
    u64 second;
    u64 sum;
};

SEC("syscall")
int add(struct numbers *numbers)
{
    numbers->sum = numbers->first + numbers->second;
    return 7;
}
