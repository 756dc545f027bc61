def write_report(out, data):
    pass
