export type { Fault, SeenRequest } from './faults.js';
export { etagOf, gitBlobHash, type HubFile, hubFile, type Repository } from './repository.js';
export { HubServer } from './server.js';
