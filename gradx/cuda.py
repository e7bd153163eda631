from gradx.backends.cuda_status import diagnose
def is_available(): return diagnose().usable
