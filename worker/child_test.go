package worker

func childWorker() int { return 0 }
