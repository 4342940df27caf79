/** Models that people know, by short names. Their licences and sizes are asked of the Hub before a download. */

export interface WellKnownModel {
  name: string
  repository: string
  /** One file, where the repository has no diffusers folder. */
  file?: string
  about: string
}

export const WELL_KNOWN: readonly WellKnownModel[] = [
  {
    name: 'sd15',
    repository: 'stable-diffusion-v1-5/stable-diffusion-v1-5',
    about: 'Stable Diffusion 1.5, 512×512',
  },
  {
    name: 'sd15-inpainting',
    repository: 'stable-diffusion-v1-5/stable-diffusion-inpainting',
    about: 'Stable Diffusion 1.5 for masks',
  },
  {
    name: 'sd-turbo',
    repository: 'stabilityai/sd-turbo',
    about: 'Stable Diffusion 2.1, one to four steps, 512×512',
  },
  {
    name: 'sdxl',
    repository: 'stabilityai/stable-diffusion-xl-base-1.0',
    about: 'Stable Diffusion XL, 1024×1024',
  },
  {
    name: 'sdxl-refiner',
    repository: 'stabilityai/stable-diffusion-xl-refiner-1.0',
    about: 'refiner of Stable Diffusion XL',
  },
  {
    name: 'sdxl-turbo',
    repository: 'stabilityai/sdxl-turbo',
    about: 'Stable Diffusion XL, one to four steps',
  },
  {
    name: 'lcm-dreamshaper',
    repository: 'SimianLuo/LCM_Dreamshaper_v7',
    about: 'Stable Diffusion 1.5, four steps',
  },
  { name: 'tiny-sd', repository: 'segmind/tiny-sd', about: 'a smaller Stable Diffusion 1.5' },
  { name: 'small-sd', repository: 'segmind/small-sd', about: 'a smaller Stable Diffusion 1.5' },
  { name: 'bk-sdm-small', repository: 'nota-ai/bk-sdm-small', about: 'a smaller Stable Diffusion 1.4' },
  { name: 'ssd-1b', repository: 'segmind/SSD-1B', about: 'half of Stable Diffusion XL' },
  { name: 'segmind-vega', repository: 'segmind/Segmind-Vega', about: 'a third of Stable Diffusion XL' },
  { name: 'taesd', repository: 'madebyollin/taesd', about: 'tiny autoencoder of Stable Diffusion 1 and 2' },
  { name: 'taesdxl', repository: 'madebyollin/taesdxl', about: 'tiny autoencoder of Stable Diffusion XL' },
]
